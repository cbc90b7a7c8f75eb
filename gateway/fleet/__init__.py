"""The models' servers: where they are, how they do, and how they are started and reached."""
