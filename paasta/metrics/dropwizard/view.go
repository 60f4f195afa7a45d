package dropwizard

import "maps"

// FormatVersion is what "version" says: the release of uwsgi_metrics whose shape this
// is.
const FormatVersion = "1.2.0"

// A View is the JSON document: all six keys are always there.
type View struct {
	Version    string                 `json:"version"`
	Counters   map[string]CounterView `json:"counters"`
	Gauges     map[string]GaugeView   `json:"gauges"`
	Histograms map[string]Summary     `json:"histograms"`
	Meters     map[string]MeterView   `json:"meters"`
	Timers     map[string]TimerView   `json:"timers"`
}

// A CounterView is a counter in JSON.
type CounterView struct {
	Count float64 `json:"count"`
}

// A GaugeView is a gauge in JSON.
type GaugeView struct {
	Value float64 `json:"value"`
}

// A MeterView is a meter in JSON, in events per second.
type MeterView struct {
	Count    float64 `json:"count"`
	M15Rate  float64 `json:"m15_rate"`
	M1Rate   float64 `json:"m1_rate"`
	M5Rate   float64 `json:"m5_rate"`
	MeanRate float64 `json:"mean_rate"`
	Units    string  `json:"units"`
}

// A TimerView is a timer in JSON, in milliseconds and calls per second.
type TimerView struct {
	Summary
	M15Rate       float64 `json:"m15_rate"`
	M1Rate        float64 `json:"m1_rate"`
	M5Rate        float64 `json:"m5_rate"`
	MeanRate      float64 `json:"mean_rate"`
	DurationUnits string  `json:"duration_units"`
	RateUnits     string  `json:"rate_units"`
}

// MeterViewOf encodes rates.
func MeterViewOf(r Rates) MeterView {
	return MeterView{Count: r.Count, M15Rate: r.M15, M1Rate: r.M1, M5Rate: r.M5, MeanRate: r.Mean, Units: "events/second"}
}

// TimerViewOf encodes a summary of milliseconds with its rates.
func TimerViewOf(s Summary, r Rates) TimerView {
	return TimerView{
		Summary: s,
		M15Rate: r.M15, M1Rate: r.M1, M5Rate: r.M5, MeanRate: r.Mean,
		DurationUnits: "milliseconds", RateUnits: "calls/second",
	}
}

// NewView returns a document without metrics.
func NewView() View {
	return View{
		Version:    FormatVersion,
		Counters:   map[string]CounterView{},
		Gauges:     map[string]GaugeView{},
		Histograms: map[string]Summary{},
		Meters:     map[string]MeterView{},
		Timers:     map[string]TimerView{},
	}
}

// View reads every metric. A gauge that is not a number, which JSON cannot say,
// is left out.
func (r *Registry) View() View {
	// The maps are copied so that a slow gauge does not hold up those who count.
	r.mu.Lock()
	counters, gauges, histograms := maps.Clone(r.counters), maps.Clone(r.gauges), maps.Clone(r.histograms)
	meters, timers := maps.Clone(r.meters), maps.Clone(r.timers)
	r.mu.Unlock()

	v := NewView()
	for name, c := range counters {
		v.Counters[name] = CounterView{c.Count()}
	}
	for name, value := range gauges {
		if x := value(); finite(x) {
			v.Gauges[name] = GaugeView{x}
		}
	}
	for name, h := range histograms {
		v.Histograms[name] = h.Summary()
	}
	for name, m := range meters {
		v.Meters[name] = MeterViewOf(m.Rates())
	}
	for name, t := range timers {
		v.Timers[name] = TimerViewOf(t.Summary(), t.Rates())
	}
	return v
}
