"""A FastAPI app with the SDK's extension: knows /dapr/subscribe, not /dapr/config."""

import os

import uvicorn
from dapr.ext.fastapi import DaprApp
from fastapi import FastAPI, Request

app = FastAPI()
DaprApp(app)


@app.middleware("http")
async def tell(request: Request, call_next):
    """Names every path that was asked for."""
    print(f"asked {request.method} {request.url.path}", flush=True)
    return await call_next(request)


@app.get("/hello")
def hello():
    """A greeting."""
    return {"hello": "world"}


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["APP_PORT"]), log_level="warning")
