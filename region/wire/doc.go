// Package wire is the frame around the bodies of homing.v1.
package wire
