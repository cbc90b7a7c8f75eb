"""The demo's own material: the task, its teacher and the models it runs on."""
