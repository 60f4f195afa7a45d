package haproxy

import "testing"

// A process that is started from a section's text has no servers that leave, and
// takes all to be up unless it was told: Diff then says again which are not.
func TestRestarted(t *testing.T) {
	t.Parallel()
	down, leaving := server(1, 10), server(2, 10)
	down.Down, leaving.Leaving = true, true
	running := NewSection(plain("web.main", 20001, down, leaving, server(3, 10)))
	want := NewSection(plain("web.main", 20001, down, server(3, 10)))
	for health, commands := range map[bool]int{true: 0, false: 1} {
		c := Diff(running.Restarted(health), want)
		if len(c.Reload) > 0 || len(c.Commands) != commands || commands > 0 && c.Commands[0].Op != Mark {
			t.Errorf("health kept %v: %+v", health, c)
		}
	}
	if len(running.Service.Backends[0].Servers) != 3 {
		t.Error("the section itself has changed")
	}
	if same := want.Restarted(true); same != want {
		t.Error("one that is as it was is made anew")
	}
}
