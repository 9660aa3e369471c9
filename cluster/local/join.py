"""`ray start` for a further raylet that stays on the loopback device.

RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 makes Ray take 127.0.0.1 as the node's address and so bind every port to it
(ray/_private/services.py, get_node_ip_address), but `ray start --address` then refuses to add a node to it. Here the
joining process alone is allowed to; the address stays. Ray is pinned, and a test looks at the sockets.
"""

from __future__ import annotations

from ray._private import ray_constants, services
from ray.scripts.scripts import main

if __name__ == "__main__":
    services.get_node_ip_address = lambda address=None: "127.0.0.1"
    ray_constants.ENABLE_RAY_CLUSTER = True
    main()
