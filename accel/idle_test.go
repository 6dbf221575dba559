package accel

func servePOP() bool { return false }
