package cli

import (
	"fmt"
	"os"
	"strings"
)

// readSecrets reads the values of secrets: those of a file first, those of
// flags over them.
func readSecrets(flags []string, file string) (map[string]string, error) {
	secrets := map[string]string{}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read secrets: %w", err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimRight(line, "\r\n")
			if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
				continue
			}
			name, value, ok := strings.Cut(line, "=")
			if !ok {
				return nil, fmt.Errorf("%s:%d: want NAME=VALUE", file, n) // not the line: it may be a secret
			}
			secrets[strings.TrimSpace(name)] = value
		}
	}
	for _, flag := range flags {
		name, value, given := strings.Cut(flag, "=")
		if !given {
			if value, given = os.LookupEnv(name); !given {
				return nil, usagef("--secret %s: there is no environment variable of that name to take its value from; want NAME=VALUE", name)
			}
		}
		secrets[name] = value
	}
	return secrets, nil
}
