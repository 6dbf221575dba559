package region

// Validate reports the first thing that is wrong with a world on its own.
func (w *World) Validate() error { return nil }
