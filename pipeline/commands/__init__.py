"""The commands, by what people want to do. Each opens what it needs when it is called, so that --help is quick."""
