// Package homingv1 holds the generated messages and service of homing.v1: the
// bodies of every connection. The .proto files are the documentation; the frame
// around a body and the proofs are described in region/wire.
package homingv1
