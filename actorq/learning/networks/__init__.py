"""Q-networks: layers, shapes, flat parameters, and acting in numpy or torch."""
