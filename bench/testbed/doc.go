// Package testbed is what measurements run on: a real API server with etcd, nodes, the template of an ordinary agent,
// and the controllers that are compared. The servers and Kubernetes' controllers are the program itself in another
// role (PlayRole), so a program that measures must call PlayRole first.
package testbed
