"""Explanations: what a network looked at, and what its layers make of a picture.

heat = mc.explain.grad_cam(model, x)                # where it looked, by one layer's gradient
heat = mc.explain.saliency(model, x)                # which pixels move the answer
heat = mc.explain.occlusion(model, x)               # what it can't do without
maps = mc.explain.feature_maps(model, x, "conv2d_1")
Image.fromarray(mc.explain.overlay(x[0], heat[0]))
"""

from .gradients import feature_maps, grad_cam, saliency
from .occluding import occlusion
from .pictures import overlay

__all__ = ["feature_maps", "grad_cam", "occlusion", "overlay", "saliency"]
