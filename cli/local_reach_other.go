//go:build !linux

package cli

// reach finds nothing unusual here: playgrounds are on Linux.
func (env *Env) reach(string, int) (reach, error) { return reach{close: func() {}}, nil }
