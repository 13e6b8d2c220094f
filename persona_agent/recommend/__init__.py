"""Recommenders: interactions and graphs in, rankings and reasons out.

    from persona_agent.recommend.data import Interactions
    from persona_agent.recommend.ease import EASE

Needs `pip install persona-agent-framework[recommend]`. Import what you need from its module.
"""
