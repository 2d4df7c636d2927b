"""Settings of hypothesis for this folder."""

from hypothesis import settings

# No deadline for a single example: how long one takes on a loaded machine is not what these tests ask.
settings.register_profile("hybrid_layer", deadline=None)
settings.load_profile("hybrid_layer")
