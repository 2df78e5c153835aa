"""A web page to try a network on one's own pictures (extra ``web``).

mc.web.serve(mc.load("cifar.safetensors"))             # as "minicnn serve" does
app = mc.web.application(mc.load("cifar.safetensors")) # for an ASGI server of one's own
"""

from .app import application
from .limits import Limits
from .server import serve

__all__ = ["Limits", "application", "serve"]
