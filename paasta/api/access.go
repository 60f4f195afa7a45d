package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// Access says who may ask. The zero value refuses everybody.
type Access struct {
	// Anyone: on loopback, where whoever connects has an account on this host.
	Anyone bool
	// tokens are hashed, so that comparing takes the same time for all lengths.
	tokens [][sha256.Size]byte
	// certs: a verified client certificate is enough.
	certs bool
}

// access checks the settings for an address. Any address but loopback needs
// TLS, and a token or a client CA; the error says what is missing. The TLS
// config is nil when there is to be none.
func access(c sysconfig.API, addr *net.TCPAddr) (Access, *tls.Config, error) {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return Access{}, nil, errors.New("api.tls_cert and api.tls_key: set both or neither")
	}
	a := Access{Anyone: addr.IP.IsLoopback(), certs: c.ClientCA != ""}
	for _, token := range c.Tokens {
		if strings.TrimSpace(token) == "" {
			return Access{}, nil, errors.New("api.tokens: an empty token would let everybody in")
		}
		a.tokens = append(a.tokens, sha256.Sum256([]byte(token)))
	}
	if !a.Anyone {
		var missing []string
		if c.TLSCert == "" {
			missing = append(missing, "TLS (api.tls_cert and api.tls_key)")
		}
		if len(a.tokens) == 0 && !a.certs {
			missing = append(missing, "a token (api.tokens) or a CA of client certificates (api.client_ca)")
		}
		if len(missing) > 0 {
			return Access{}, nil, command.WithHint(
				fmt.Errorf("refusing to listen on %s, which others can reach, without %s", addr, strings.Join(missing, " and ")),
				"set them in the system config, or listen on 127.0.0.1")
		}
	}
	if c.TLSCert == "" {
		if a.certs {
			return Access{}, nil, errors.New("api.client_ca needs TLS: set api.tls_cert and api.tls_key")
		}
		return a, nil, nil
	}
	t, err := serverTLS(c)
	return a, t, err
}

func serverTLS(c sysconfig.API) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("read api.tls_cert %s with api.tls_key %s: %w", c.TLSCert, c.TLSKey, err)
	}
	t := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"},
	}
	if c.ClientCA != "" {
		pem, err := os.ReadFile(c.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("read api.client_ca: %w", err)
		}
		t.ClientCAs = x509.NewCertPool()
		if !t.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("api.client_ca %s: no PEM certificate in it", c.ClientCA)
		}
		// Given but not verified is refused in the handshake; whether one is
		// needed is allows' question, since a token may do instead.
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return t, nil
}

// allows tells whether a request may be answered.
func (a Access) allows(r *http.Request) bool {
	if a.Anyone {
		return true
	}
	if a.certs && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	same := 0
	for _, t := range a.tokens { // all of them, so that time tells nothing
		same |= subtle.ConstantTimeCompare(sum[:], t[:])
	}
	return same == 1
}
