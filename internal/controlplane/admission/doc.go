// Package admission decides what nodes may say of themselves: which machine gets a certificate, and under which name and
// address; which tokens let machines join; and whose certificates are refused since. A node decides nothing for others
// (A9 of ARCHITECTURE.md).
package admission
