"""A Celery task that reports to a consumer. Celery's pool forks, and the layer may be used before and after that.

    pip install celery hybrid_layer
    cd examples/celery
    celery -A jobs worker --concurrency 2          # in one shell
    python watch.py                                # in another: queues two jobs and prints their reports

In a Django project the settings are there already, and `get_channel_layer()` alone is needed.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from asgiref.sync import async_to_sync
from celery import Celery
from channels.layers import get_channel_layer
from django.conf import settings

if not settings.configured:
    settings.configure(
        CHANNEL_LAYERS={
            "default": {
                "BACKEND": "hybrid_layer.HybridChannelLayer",
                "CONFIG": json.loads(os.environ.get("LAYER_CONFIG", '{"prefix": "celery-example"}')),
            }
        }
    )

# A broker that needs no server, so that the example runs as it is.
queue = Path(os.environ.get("QUEUE", tempfile.gettempdir() + "/celery-example"))
queue.mkdir(mode=0o700, exist_ok=True)
app = Celery("jobs", broker="filesystem://", task_ignore_result=True)
app.conf.broker_transport_options = {
    "data_folder_in": str(queue),
    "data_folder_out": str(queue),
    "control_folder": str(queue / "control"),
}


@app.task(name="count")
def count(channel: str, job: str, steps: int) -> None:
    """Report each step to `channel`, the channel of a consumer."""
    report = async_to_sync(get_channel_layer().send)
    for step in range(steps):
        time.sleep(0.01)
        report(channel, {"type": "job.progress", "job": job, "step": step, "process": os.getpid()})
