"""The server: OpenAI's API with a memory, and the memory's own routes.

It stands between a chat product and its model. `app.create_app` makes the application,
`persona-agent serve` runs it.
"""
