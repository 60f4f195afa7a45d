package process

import "unicode/utf8"

// A Tail keeps the last Max bytes of what a process writes.
type Tail struct {
	Max int
	buf []byte
}

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(len(p)-t.Max, 0):]...)
	if over := len(t.buf) - t.Max; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String leaves out what a character lost when its begin was dropped.
func (t *Tail) String() string {
	text := t.buf
	for n := 0; n < utf8.UTFMax-1 && len(text) > 0 && !utf8.RuneStart(text[0]); n++ {
		text = text[1:]
	}
	return string(text)
}
