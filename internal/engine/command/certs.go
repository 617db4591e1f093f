package command

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// certs are the files of a TLS server, which are read again when they change. While
// they cannot be read, or do not match, the last good content stays in use.
type certs struct {
	cert, key, ca string
	log           *slog.Logger

	mu     sync.Mutex
	as     []fileState // state of the files when they were last checked
	config *tls.Config
}

// fileState distinguishes one content of a file from another.
type fileState struct {
	size     int64
	modified time.Time
}

// tls returns the configuration of the server; nil: plain HTTP.
func (s *settings) tls(log *slog.Logger) (*tls.Config, error) {
	if s.TLSCertFile == "" {
		return nil, nil
	}
	c := &certs{cert: s.TLSCertFile, key: s.TLSPrivateKeyFile, ca: s.ClientCAFile, log: log}
	var err error
	c.as = c.states()
	if c.config, err = c.read(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.current(), nil
	}}, nil
}

// current returns the configuration for the current files.
func (c *certs) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.states()
	if slices.Equal(now, c.as) {
		return c.config
	}
	c.as = now
	next, err := c.read()
	if err != nil {
		c.log.Warn("the new certificate for metrics cannot be used; keeping the previous one", "err", err)
		return c.config
	}
	c.config = next
	return c.config
}

// states returns the state of each file; zero for one that does not exist.
func (c *certs) states() (all []fileState) {
	for _, name := range []string{c.cert, c.key, c.ca} {
		var s fileState
		if info, err := os.Stat(name); err == nil {
			s = fileState{info.Size(), info.ModTime()}
		}
		all = append(all, s)
	}
	return all
}

func (c *certs) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("reading --tls-cert-file and --tls-private-key-file: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	if c.ca == "" {
		return config, nil
	}
	text, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, fmt.Errorf("reading --client-ca-file: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--client-ca-file %s holds no certificate", c.ca)
	}
	// A kubelet's probes have no certificate: protect asks for one where it is needed.
	config.ClientAuth = tls.VerifyClientCertIfGiven
	return config, nil
}
