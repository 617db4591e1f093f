package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// etcdMemberName is the name under which scripts run the test's own program as a member of etcd.
const etcdMemberName = "etcd-member"

// etcdMember is the program etcd-member FOLDER KEYS NAME NAME=ADDRESS...: the member NAME of an etcd of these
// members. Its data is in FOLDER, its keys in KEYS, where etcd-keys has put them. It runs until it is killed.
func etcdMember() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "usage: etcd-member FOLDER KEYS NAME NAME=ADDRESS...")
		os.Exit(2)
	}
	cfg, err := memberConfig(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
	if err == nil {
		var e *embed.Etcd
		if e, err = embed.StartEtcd(cfg); err == nil {
			err = <-e.Err()
		}
	}
	fmt.Fprintln(os.Stderr, "etcd-member:", err)
	os.Exit(1)
}

func memberConfig(dir, keys, name string, members []string) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.LogLevel = name, dir, "warn"
	var cluster []string
	for _, member := range members {
		who, address, _ := strings.Cut(member, "=")
		peer, err := url.Parse("https://" + address + ":2380")
		if err != nil {
			return nil, err
		}
		cluster = append(cluster, who+"="+peer.String())
		if who != name {
			continue
		}
		client := url.URL{Scheme: "https", Host: address + ":2379"}
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	}
	cfg.InitialCluster = strings.Join(cluster, ",")
	cfg.PeerTLSInfo = keysOf(keys, name)
	cfg.ClientTLSInfo = keysOf(keys, name)
	return cfg, nil
}

// keysOf returns the keys of a member or of a client. Each side checks the other's certificate.
func keysOf(dir, name string) transport.TLSInfo {
	return transport.TLSInfo{
		TrustedCAFile: filepath.Join(dir, "ca.crt"), ClientCertAuth: true,
		CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key"),
	}
}

// etcdKeys makes an authority, a certificate for each member and one for clients.
func etcdKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: etcd-keys FOLDER NAME=ADDRESS...")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	ca, err := newPair(template, nil)
	ts.Check(err)
	ts.Check(ca.write(dir, "ca"))
	for i, member := range append(args[1:], "client=127.0.0.1") {
		name, address, _ := strings.Cut(member, "=")
		leaf, err := newPair(&x509.Certificate{
			SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.ParseIP(address)},
			NotBefore: template.NotBefore, NotAfter: template.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, ca)
		ts.Check(err)
		ts.Check(leaf.write(dir, name))
	}
}

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newPair makes a certificate that ca signs; without ca it is self-signed.
func newPair(template *x509.Certificate, ca *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if ca == nil {
		ca = &pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &pair{cert, key}, err
}

func (p *pair) write(dir, name string) error {
	der, err := x509.MarshalECPrivateKey(p.key)
	if err != nil {
		return err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, name+".key"), key, 0o600); err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
	return os.WriteFile(filepath.Join(dir, name+".crt"), cert, 0o644)
}

// etcdHealthy waits until a member has caught up with the others: it answers a read that needs a majority.
func etcdHealthy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: etcd-healthy DURATION KEYS ADDRESS")
	}
	config, err := keysOf(ts.MkAbs(args[1]), "client").ClientConfig()
	ts.Check(err)
	poll(ts, args[0], func(ctx context.Context) (string, error) { return askMember(ctx, config, args[2]) })
}

func askMember(ctx context.Context, config *tls.Config, address string) (string, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + address + ":2379"}, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	got, err := client.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d keys at revision %d\n", got.Count, got.Header.Revision), nil
}
