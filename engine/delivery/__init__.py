"""What is delivered to whom, as pure state machines: no clock, no file, no event loop."""
