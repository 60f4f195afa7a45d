package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Credentials are what a registry asks for; the zero value is for one that asks
// nothing.
type Credentials struct{ User, Password string }

// Header is how Docker's API takes them.
func (c Credentials) Header() (string, error) {
	text, err := json.Marshal(map[string]string{"username": c.User, "password": c.Password})
	return base64.URLEncoding.EncodeToString(text), err
}

// dockerConfig is what we read of ~/.docker/config.json.
type dockerConfig struct {
	Auths       map[string]storedAuth `json:"auths"`
	CredsStore  string                `json:"credsStore"`
	CredHelpers map[string]string     `json:"credHelpers"`
}

type storedAuth struct {
	Auth     string `json:"auth"` // base64 of user:password
	Username string `json:"username"`
	Password string `json:"password"`
}

// FindCredentials returns what Docker's configuration holds for a registry:
// a credential helper's answer, what "docker login" stored in
// $DOCKER_CONFIG/config.json or ~/.docker/config.json, or what stands in the
// older ~/.dockercfg. None is the zero value and no error.
func FindCredentials(ctx context.Context, registry string) (Credentials, error) {
	home, err := os.UserHomeDir()
	if err != nil && os.Getenv("DOCKER_CONFIG") == "" {
		return Credentials{}, nil
	}
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		dir = filepath.Join(home, ".docker")
	}
	var c dockerConfig
	if err := readJSON(filepath.Join(dir, "config.json"), &c); err != nil {
		return Credentials{}, err
	}
	helper := c.CredHelpers[registry]
	if helper == "" {
		helper = c.CredsStore
	}
	if helper != "" {
		found, err := askHelper(ctx, helper, registry)
		if err != nil || found != (Credentials{}) {
			return found, err
		}
	}
	if a, ok := lookup(c.Auths, registry); ok {
		return a.decode()
	}
	old := map[string]storedAuth{}
	if err := readJSON(filepath.Join(home, ".dockercfg"), &old); err != nil {
		return Credentials{}, err
	}
	if a, ok := lookup(old, registry); ok {
		return a.decode()
	}
	return Credentials{}, nil
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// lookup finds a registry however its key is written: bare, as a URL, or with
// the path of an API.
func lookup(auths map[string]storedAuth, registry string) (storedAuth, bool) {
	for key, a := range auths {
		host := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		host, _, _ = strings.Cut(host, "/")
		if host == registry {
			return a, true
		}
	}
	return storedAuth{}, false
}

func (a storedAuth) decode() (Credentials, error) {
	if a.Auth == "" {
		return Credentials{a.Username, a.Password}, nil
	}
	text, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		return Credentials{}, fmt.Errorf("docker's stored credentials: %w", err)
	}
	user, password, _ := strings.Cut(string(bytes.TrimRight(text, "\x00")), ":")
	return Credentials{user, password}, nil
}

// askHelper asks docker-credential-<helper>, by its protocol: the registry on
// its standard input, JSON as the answer.
func askHelper(ctx context.Context, helper, registry string) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, "get")
	cmd.Stdin = strings.NewReader(registry)
	out, err := cmd.Output()
	if err != nil {
		if strings.Contains(string(out), "credentials not found") {
			return Credentials{}, nil
		}
		return Credentials{}, fmt.Errorf("docker-credential-%s get %s: %w: %s", helper, registry, err, lastLine(out))
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return Credentials{}, fmt.Errorf("docker-credential-%s get %s: %w", helper, registry, err)
	}
	return Credentials{answer.Username, answer.Secret}, nil
}

func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
