"""The federation: a Flower app of chest X-ray clients."""
