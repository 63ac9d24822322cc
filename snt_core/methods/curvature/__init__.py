"""The Hessian of the loss: its largest eigenvalue, spectrum and the loss around a net."""
