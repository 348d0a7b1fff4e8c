package sftp

// Traversal makes names for tests over the wire.
var Traversal = traversal
