"""`/healthz`, `/readyz`, `/metrics`: for those who run the server."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from retgen.server.asking import Served, failing
from retgen.server.metrics import CONTENT_TYPE
from retgen.server.responses import Health

router = APIRouter(tags=["server"])
_METRICS = {"description": "Prometheus' text form.", "content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> Health:
    """Always 200 as long as it answers at all."""
    return Health(status="ok")


@router.get("/readyz", summary="Whether it takes on work", response_model=Health, responses={503: {"model": Health}})
async def readyz(service: Served) -> Health | JSONResponse:
    """200, or 503 while it is being stopped."""
    if service.ready:
        return Health(status="ready")
    return JSONResponse({"status": "draining" if service.draining else "broken"}, status_code=503)


@router.get("/metrics", summary="Counters", response_class=Response, responses={200: _METRICS, **failing(401)})
def metrics(service: Served) -> Response:
    """Requests, times, batches, the queue, memory."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)
