"""The method: recalibrated targets (Eq. 3, 4), knowledge matching (Eq. 5), and the training that uses them."""
