// Package balancer gives services of type LoadBalancer an address that answers on
// this machine: one of a range that nobody else uses, with a route to a node that
// serves it. kube-proxy on that node does the rest, as it does for each load
// balancer's address.
//
// Assign decides, from services, nodes and endpoints alone; Run watches and writes
// what was decided into statuses and routes. All that it has made follows from what
// the API server says, so there is nothing to clean up but the routes, which go
// with the link to the nodes.
package balancer
