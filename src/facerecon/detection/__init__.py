"""Where the faces are: the detector, its network, and a crop that follows the fit."""
