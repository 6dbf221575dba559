// Package deps holds no code, only tests of the whole tree: who may import
// whom and why, what the kernel may use, how metrics are named, and whether the
// dashboards in deploy name real ones. They read the source, so they also cover
// files that another platform would build.
package deps
