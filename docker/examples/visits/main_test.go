package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestVisit(t *testing.T) {
	hello := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello from a test\n") }))
	defer hello.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // a Redis that knows one command
		for n := 1; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			for range 5 {
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
			}
			fmt.Fprintf(conn, ":%d\r\n", n)
			conn.Close()
		}
	}()
	srv := httptest.NewServer(service{hello.URL, l.Addr().String()}.handler())
	defer srv.Close()
	for n := 1; n <= 2; n++ {
		got, err := get(t.Context(), srv.URL+"/visit/ada")
		if want := fmt.Sprintf("ada: visit %d\nhello from a test\n", n); err != nil || got != want {
			t.Errorf("visit %d = %q, %v, want %q", n, got, err, want)
		}
	}
}
