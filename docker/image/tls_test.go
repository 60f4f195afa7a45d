package image

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// certificate writes a certificate for an address, which vouches for itself.
func certificate(t *testing.T, address string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: address}, IPAddresses: []net.IP{net.ParseIP(address)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "key.pem")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})))
	return cert, key
}

// A registry on another address than loopback, with TLS, passwords, and a
// credential helper that knows them.
func TestPushOverTLS(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	const address = "10.77.9.1"
	if out, err := exec.Command("ip", "address", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cert, key := certificate(t, address)
	passwords := filepath.Join(t.TempDir(), "htpasswd")
	write(t, passwords, htpasswd)
	startRegistry(t, address+":443", fmt.Sprintf("auth: {htpasswd: {realm: paasta, path: %q}}\n", passwords),
		fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", cert, key))
	startRegistry(t, address+":5000", "", "")
	startRegistry(t, address+":5001", fmt.Sprintf("auth: {htpasswd: {realm: paasta, path: %q}}\n", passwords), "")

	bin := t.TempDir()
	write(t, filepath.Join(bin, "docker-credential-vault"), "#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"team\",\"Secret\":\"secret:with:colons\"}'\n")
	if err := os.Chmod(filepath.Join(bin, "docker-credential-vault"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := t.TempDir()
	write(t, filepath.Join(config, "config.json"), `{"credHelpers":{"`+address+`:443":"vault"}}`)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("DOCKER_CONFIG", config)

	name := "services-hello:paasta-0123456789abcdef0123456789abcdef01234567"
	c, err := FindCredentials(t.Context(), address+":443")
	if err != nil || c.User != "team" {
		t.Fatalf("%+v, %v", c, err)
	}
	r := Registry{Address: address + ":443", Credentials: c}
	if _, err := r.Has(t.Context(), name); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a stranger's certificate is taken: %v", err)
	}
	// As an operator tells Docker to trust it.
	trusted := filepath.Join(config, "certs.d", address+":443")
	if err := os.MkdirAll(trusted, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(trusted, "ca.crt"), string(text))
	t.Setenv("SSL_CERT_FILE", cert) // for the engine, which is started with it
	docker := dockertest.Start(t)
	t.Setenv("DOCKER_HOST", docker.Host)
	engine, err := Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if has, err := r.Has(t.Context(), name); has || err != nil {
		t.Errorf("before the push: %t, %v", has, err)
	}
	ref := address + ":443/" + name
	docker.BuildFiles(ref, map[string][]byte{"file": []byte("x")}, "FROM scratch", "COPY file /file")
	if err := engine.Push(t.Context(), ref, c, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	if has, err := r.Has(t.Context(), name); !has || err != nil {
		t.Errorf("after the push: %t, %v", has, err)
	}
	if _, err := (Registry{Address: r.Address}).Has(t.Context(), name); err == nil || !strings.Contains(err.Error(), "docker login "+r.Address) {
		t.Errorf("without credentials: %v", err)
	}
	if err := engine.Pull(t.Context(), ref, c, func(Progress) {}); err != nil {
		t.Error(err)
	}
	if err := engine.Pull(t.Context(), address+":443/services-none:x", c, func(Progress) {}); !errors.Is(err, ErrNotInRegistry) {
		t.Errorf("an image that is not there: %v", err)
	}

	// Plain text on a network: asked, and never with a password.
	if has, err := (Registry{Address: address + ":5000", Credentials: c}).Has(t.Context(), name); has || err != nil {
		t.Errorf("a plain registry: %t, %v", has, err)
	}
	if _, err := (Registry{Address: address + ":5001", Credentials: c}).Has(t.Context(), name); err == nil || !strings.Contains(err.Error(), "not sent in plain text") {
		t.Errorf("a plain registry that wants a password: %v", err)
	}
}

// What an operator gave Docker for a registry is used: its authority, and the
// certificate that it wants to see.
func TestCertificates(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "https://")
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	dir := filepath.Join(config, "certs.d", address)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Loopback is trusted anyway.
	if has, err := (Registry{Address: address}).Has(t.Context(), "web:1"); has || err != nil {
		t.Errorf("%t, %v", has, err)
	}
	for file, want := range map[string]string{"ca.crt": "no PEM certificate", "client.cert": "client.cert"} {
		write(t, filepath.Join(dir, file), "nonsense")
		if _, err := (Registry{Address: address}).Has(t.Context(), "web:1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a broken %s: %v", file, err)
		}
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
}
