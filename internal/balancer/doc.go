// Package balancer gives services of type LoadBalancer an address that answers on
// this machine: one of a range that nobody else uses, with a route to a node that
// serves it. kube-proxy on that node does the rest, as it does for each load
// balancer's address.
//
// Assign decides, from services, nodes and endpoints alone. Run watches these, and
// writes the decisions to statuses and routes. Everything that it makes follows from
// objects of the API server. So there is nothing to clean up but the routes, which
// disappear with the link to the nodes.
package balancer
