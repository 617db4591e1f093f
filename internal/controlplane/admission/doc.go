// Package admission decides what nodes may say about themselves: which machine gets a certificate, and under which name
// and address; which tokens let machines join; and whose certificates are no longer accepted. A node decides nothing for
// others (A9 of ARCHITECTURE.md).
package admission
