// Package access is the front doors of a region.
package access
