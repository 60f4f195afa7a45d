package plug

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// The structures that are handed to netlink as bytes are those of the kernel's
// headers: on this machine as its compiler lays them out, and in both byte orders.
func TestStructuresOfNetlink(t *testing.T) {
	t.Parallel()
	plug := struct { // linux/pkt_sched.h: struct tc_plug_qopt
		action int32
		limit  uint32
	}{int32(plugSetLimit), 65536 * sizeOfSYN}
	queue := struct { // linux/netfilter/xt_NFQUEUE.h: struct xt_NFQ_info_v3
		queuenum, queuesTotal, flags, _ uint16
	}{7000, 1, 1, 0}
	for name, tt := range map[string]struct{ got, want []byte }{
		"tc_plug_qopt, native": {plugOption(binary.NativeEndian, plugSetLimit, 65536*sizeOfSYN), unsafe.Slice((*byte)(unsafe.Pointer(&plug)), unsafe.Sizeof(plug))},
		"tc_plug_qopt, little": {plugOption(binary.LittleEndian, plugSetLimit, 0x01020304), []byte{3, 0, 0, 0, 4, 3, 2, 1}},
		"tc_plug_qopt, big":    {plugOption(binary.BigEndian, plugSetLimit, 0x01020304), []byte{0, 0, 0, 3, 1, 2, 3, 4}},
		"tc_plug_qopt, most":   {plugOption(binary.BigEndian, plugSetLimit, 1<<20*sizeOfSYN), []byte{0, 0, 0, 3, 0x5e, 0xa0, 0, 0}},
		"xt_NFQ_info, native":  {queueInfo(binary.NativeEndian, 7000), unsafe.Slice((*byte)(unsafe.Pointer(&queue)), unsafe.Sizeof(queue))},
		"xt_NFQ_info, little":  {queueInfo(binary.LittleEndian, 0x0102), []byte{2, 1, 1, 0, 1, 0, 0, 0}},
		"xt_NFQ_info, big":     {queueInfo(binary.BigEndian, 0x0102), []byte{1, 2, 0, 1, 0, 1, 0, 0}},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if most := int64(1<<20) * sizeOfSYN; most > 1<<31-1 {
		t.Errorf("the largest limit, %d bytes, is no int of 32 bits", most)
	}
}
