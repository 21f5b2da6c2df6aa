"""What delivery decides, without doing any of it: no clock, no store, no event loop. Events and the time go in."""
