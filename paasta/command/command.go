// Package command describes a subcommand of the paasta binary without naming
// the library that runs it. The trees deployd, smartstack, docker and
// paasta/api export their commands in this form; package cli, the only user of
// cobra, hangs them into the root command, and paasta/cmd/paasta brings the two
// together.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
)

// A Command is one subcommand. Run is nil for one that only groups Sub.
type Command struct {
	Use     string // usage line without "paasta", e.g. "marathon [flags]"; its first word is the name
	Short   string // one line
	Long    string // a paragraph
	Example string // two examples, each indented by two spaces
	Hidden  bool   // true for commands that only other commands call
	Flags   func(*pflag.FlagSet)
	// Run does it. A daemon blocks until ctx ends and then returns nil.
	Run func(ctx context.Context, io IO, args []string) error
	Sub []Command
}

// IO is what a command reads and writes. Out is for answers only, Err for
// everything about the answer (daemons log there, as JSON).
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// UsageError says that a command was called wrongly; the process exits with 2.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// ErrNotHealthy says that a command worked and its answer, already printed, is
// "not healthy"; the process prints nothing more and exits with 3.
var ErrNotHealthy = errors.New("not healthy")

// ExitError makes the process exit with Code and print nothing more: what a
// command that wraps another command returns.
type ExitError struct{ Code int }

func (e ExitError) Error() string { return "exit" }

// A HintedError is an error that knows what the user could do about it; main
// prints the hint on a line of its own as "Try: <hint>".
type HintedError struct {
	Err  error
	Hint string // a full command or a full sentence
}

func (e HintedError) Error() string { return e.Err.Error() }
func (e HintedError) Unwrap() error { return e.Err }

// WithHint adds what to try to err; a nil err stays nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return HintedError{err, hint}
}

// WriteJSON writes v as indented JSON. An empty slice must not be nil, or it
// reads "null".
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
