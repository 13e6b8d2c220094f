"""A real Ray cluster of two nodes on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from persona_agent.cluster import Fleet
from persona_agent.cluster.driver import connected

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[Any]:
    """Give a cluster of two nodes, each with room for one worker, which this process has joined.

    Any: a `ray.cluster_utils.Cluster`; ray is an extra.
    """
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
    )
    cluster.add_node(**NODE)
    with connected(Fleet(address=cluster.address)):
        yield cluster
    cluster.shutdown()
