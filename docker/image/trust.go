package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// certDirs are where Docker keeps, in a directory named after each registry,
// the authorities (*.crt) that it trusts for it and what it shows (*.cert, *.key).
func certDirs() []string {
	dirs := []string{"/etc/docker/certs.d"}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return append(dirs, filepath.Join(dir, "certs.d"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".docker", "certs.d"))
	}
	return dirs
}

// trusting returns a client that trusts the registry as Docker does: one on
// loopback without a question.
func (r Registry) trusting() (*http.Client, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.loopback()} //nolint:gosec // as Docker: nobody is in between
	for _, dir := range certDirs() {
		if err := addCerts(c, filepath.Join(dir, r.Address)); err != nil {
			return nil, err
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = c
	t.DisableKeepAlives = true // a question or two, and nobody who would close it
	return &http.Client{Transport: t, Timeout: 20 * time.Second}, nil
}

// addCerts adds what is in one directory. None is no error.
func addCerts(c *tls.Config, dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("certificates for the registry: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch filepath.Ext(path) {
		case ".crt":
			pem, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("certificates for the registry: %w", err)
			}
			if c.RootCAs == nil {
				if c.RootCAs, err = x509.SystemCertPool(); err != nil {
					c.RootCAs = x509.NewCertPool() // there is none here: only these
				}
			}
			if !c.RootCAs.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s: no PEM certificate in it", path)
			}
		case ".cert":
			pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			c.Certificates = append(c.Certificates, pair)
		}
	}
	return nil
}
