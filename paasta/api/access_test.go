package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/paasta/zk"
)

// A testCA signs certificates into PEM files of a temporary directory.
type testCA struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *testCA {
	ca := &testCA{t: t, dir: t.TempDir()}
	ca.cert, ca.key = ca.sign("ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	return ca
}

// sign writes name.pem and name.key.
func (ca *testCA) sign(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		ca.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	ca.write(name+".pem", "CERTIFICATE", der)
	ca.write(name+".key", "PRIVATE KEY", keyDER)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return cert, key
}

func (ca *testCA) write(name, kind string, der []byte) {
	ca.t.Helper()
	if err := os.WriteFile(ca.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
}

func (ca *testCA) file(name string) string { return filepath.Join(ca.dir, name) }

func (ca *testCA) leaf(name string) {
	ca.sign(name, &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

var (
	loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5054}
	outside  = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5054}
	anywhere = &net.TCPAddr{Port: 5054}
)

func TestAccessRefusesToStartOpenToOthers(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	ca.leaf("server")
	cert, key, root := ca.file("server.pem"), ca.file("server.key"), ca.file("ca.pem")
	for _, tc := range []struct {
		name string
		c    sysconfig.API
		addr *net.TCPAddr
		want string // part of the error; "" for none
	}{
		{"loopback needs nothing", sysconfig.API{}, loopback, ""},
		{"IPv6 loopback needs nothing", sysconfig.API{}, &net.TCPAddr{IP: net.IPv6loopback}, ""},
		{"outside without anything", sysconfig.API{}, outside, "without TLS (api.tls_cert and api.tls_key) and a token"},
		{"all addresses without anything", sysconfig.API{}, anywhere, "without TLS"},
		{"outside with a token but in the clear", sysconfig.API{Tokens: []string{"s3cret"}}, outside, "without TLS (api.tls_cert and api.tls_key)"},
		{"outside with TLS but for anybody", sysconfig.API{TLSCert: cert, TLSKey: key}, outside, "without a token"},
		{"outside with TLS and token", sysconfig.API{TLSCert: cert, TLSKey: key, Tokens: []string{"s3cret"}}, outside, ""},
		{"outside with TLS and client CA", sysconfig.API{TLSCert: cert, TLSKey: key, ClientCA: root}, outside, ""},
		{"an empty token", sysconfig.API{TLSCert: cert, TLSKey: key, Tokens: []string{" "}}, outside, "empty token"},
		{"a certificate without key", sysconfig.API{TLSCert: cert}, loopback, "set both or neither"},
		{"a client CA without TLS", sysconfig.API{ClientCA: root}, loopback, "needs TLS"},
		{"a key that is no key", sysconfig.API{TLSCert: cert, TLSKey: cert, Tokens: []string{"s3cret"}}, outside, "read api.tls_cert"},
		{"a CA that is none", sysconfig.API{TLSCert: cert, TLSKey: key, ClientCA: key}, outside, "no PEM certificate"},
	} {
		_, tlsConfig, err := access(tc.c, tc.addr)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		case err == nil && (tlsConfig != nil) != (tc.c.TLSCert != ""):
			t.Errorf("%s: TLS %v", tc.name, tlsConfig != nil)
		}
	}
}

// TestAccessOverTLS starts the server as outside, on loopback, and asks with
// and without what it wants.
func TestAccessOverTLS(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	ca.leaf("server")
	ca.leaf("client")
	stranger := newCA(t)
	stranger.leaf("client")
	who, tlsConfig, err := access(sysconfig.API{
		TLSCert: ca.file("server.pem"), TLSKey: ca.file("server.key"), ClientCA: ca.file("ca.pem"), Tokens: []string{"first", "s3cret"},
	}, outside)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := zk.Dial(zk.Options{Servers: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	s := newServer(Options{Cluster: cluster, ZK: conn, Access: who, Log: slog.New(slog.DiscardHandler)})
	s.changed(webTree(), nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- httpserver.Serve(tls.NewListener(l, tlsConfig), httpServer(s.handler(), s.Log), time.Second)(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	url := "https://" + l.Addr().String()

	for _, tc := range []struct {
		name string
		o    ClientOptions
		want string // part of the error; "" for none
	}{
		{"a token", ClientOptions{CA: ca.file("ca.pem"), Token: "s3cret"}, ""},
		{"a client certificate", ClientOptions{CA: ca.file("ca.pem"), Cert: ca.file("client.pem"), Key: ca.file("client.key")}, ""},
		{"nothing", ClientOptions{CA: ca.file("ca.pem")}, "wants a token or a client certificate"},
		{"a wrong token", ClientOptions{CA: ca.file("ca.pem"), Token: "s3cre"}, "wants a token or a client certificate"},
		{"a certificate of another CA", ClientOptions{CA: ca.file("ca.pem"), Cert: stranger.file("client.pem"), Key: stranger.file("client.key")}, "GET https://"},
		{"a client that does not know our CA", ClientOptions{Token: "s3cret"}, "certificate"},
	} {
		tc.o.URL = url
		c, err := NewClient(tc.o)
		if err != nil {
			t.Fatal(err)
		}
		services, err := c.Services(t.Context())
		switch {
		case tc.want == "" && (err != nil || len(services) != 1):
			t.Errorf("%s: %v, %v", tc.name, services, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		var h command.HintedError
		if tc.name == "nothing" && !errors.As(err, &h) {
			t.Errorf("%s: %v has no hint", tc.name, err)
		}
	}
	for _, path := range []string{"/healthz", "/metrics", "/openapi.yaml", "/nope"} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		r, err := c.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a token: %s", path, r.Status)
		}
	}
}

func TestLoopbackIsForThisHostOnly(t *testing.T) {
	t.Parallel()
	conn, err := zk.Dial(zk.Options{Servers: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	s := newServer(Options{Cluster: cluster, ZK: conn, Access: Access{Anyone: true}, Log: slog.New(slog.DiscardHandler)})
	s.changed(webTree(), nil)
	for _, tc := range []struct {
		name, method, host, origin string
		code                       int
	}{
		{"by address", "GET", "127.0.0.1:5054", "", 200},
		{"by IPv6 address", "GET", "[::1]:5054", "", 200},
		{"by name", "GET", "localhost:5054", "", 200},
		{"by a name that was made to resolve to us", "GET", "evil.example:5054", "", 403},
		{"a form of another site", "POST", "127.0.0.1:5054", "http://evil.example", 403},
	} {
		r := httptest.NewRequest(tc.method, "/v1/services", nil)
		r.Host = tc.host
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, r)
		if w.Code != tc.code {
			t.Errorf("%s: %d, want %d\n%s", tc.name, w.Code, tc.code, w.Body)
		}
	}
}
