package nerve

// A health is what the last results of one check add up to. The first result
// of a new agent decides at once unless Rise asks for more: a service that is
// just starting must pass Rise times before it is published, while one that was
// published before (the agent restarted) needs one pass.
type health struct {
	rise, fall int
	up         bool
	known      bool
	streak     int // results in a row that contradict up
}

// add takes the next result and reports whether the check counts as up.
func (h *health) add(pass bool) bool {
	if !h.known {
		h.known = true
		h.up = false
		h.streak = 0
	}
	if pass == h.up {
		h.streak = 0
		return h.up
	}
	h.streak++
	need := h.fall
	if pass {
		need = h.rise
	}
	if h.streak >= need {
		h.up, h.streak = pass, 0
	}
	return h.up
}

// assumeUp starts from "up": for a service whose entries were there when the
// agent started, so that a restart of the agent takes nothing out.
func (h *health) assumeUp() { h.known, h.up, h.streak = true, true, 0 }
