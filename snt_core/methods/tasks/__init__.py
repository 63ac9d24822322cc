"""What a model is asked: the task, data in any form, the loss over it, and what layers see."""
