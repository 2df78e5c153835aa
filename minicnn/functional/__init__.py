"""The book: every operation as a pair of pure functions, forward and backward side by side.

    y, cache = f_forward(x, *parameters, **options)
    dx, ...  = f_backward(dy, cache)

``dy`` is dL/dy, the gradient of the loss with respect to the output, in the shape of ``y``; what
comes back are the gradients with respect to the inputs, in their shapes.  Inputs are never
modified, and the dtype that comes in goes out (float64 for gradient checks).  A cache is small:
nothing in it is larger than the input or the output.

Sizes, in every comment of these files:

    N  pictures in the batch          KH KW  height and width of a window (kernel)
    H W  height and width of x        SH SW  stride: steps of the window
    C  channels of x                  DH DW  dilation: distance of neighbouring taps
    O  channels of y (filters)        OH OW  height and width of y
    G  groups of channels             I      inputs of a dense layer
    M  rows of a matrix, N*OH*OW      T      taps of a window, KH*KW

Pictures are NHWC, (N, H, W, C), C contiguous; convolution weights are HWIO, (KH, KW, C/G, O).

Read in this order: dense, activation, loss, windows, pool, conv, norm, dropout, update.

Each function carries ``functools.singledispatch`` on its first array: the body you read is the
definition and runs on NumPy and CuPy alike; faster bodies may be registered from outside
(``f.registry`` lists them, ``f.dispatch(object)`` is always the one here).
"""
