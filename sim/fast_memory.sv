// AXI4 memory for fast simulation: the answers have a fixed latency, the storage is a host buffer behind DPI-C.
//
// Bursts are INCR beats of full width. Reads and writes are independent, each answered in the order of its addresses.
//   read:   one address a cycle; the first beat can be taken READ_LATENCY cycles after the address was, the others one
//           a cycle, back to back across bursts. Up to OUTSTANDING bursts wait.
//   write:  one beat a cycle, from the cycle after its address was taken; the response can be taken WRITE_LATENCY cycles
//           after the last beat was. A burst's response is the worst of its beats.
// A beat beyond the memory, or in its fault region, answers an error; a read of it gives zero, a write changes nothing.

module fast_memory #(
    parameter int ADDRESS_BITS = 32,
    parameter int DATA_BITS = 128,  // 32, or a multiple of 64
    parameter int READ_LATENCY = 16,  // at least 2
    parameter int WRITE_LATENCY = 8,  // at least 2
    parameter int OUTSTANDING = 64  // a power of two
) (
    input logic clk,
    input logic rst,

    input  logic                    awid,
    input  logic [ADDRESS_BITS-1:0] awaddr,
    input  logic [             7:0] awlen,
    input  logic                    awvalid,
    output logic                    awready,
    input  logic [   DATA_BITS-1:0] wdata,
    input  logic [ DATA_BITS/8-1:0] wstrb,
    input  logic                    wlast,
    input  logic                    wvalid,
    output logic                    wready,
    output logic                    bid,
    output logic [             1:0] bresp,
    output logic                    bvalid,
    input  logic                    bready,

    input  logic                    arid,
    input  logic [ADDRESS_BITS-1:0] araddr,
    input  logic [             7:0] arlen,
    input  logic                    arvalid,
    output logic                    arready,
    output logic                    rid,
    output logic [   DATA_BITS-1:0] rdata,
    output logic [             1:0] rresp,
    output logic                    rlast,
    output logic                    rvalid,
    input  logic                    rready
);
    // The AXI response to an access of one beat: 0 (OKAY), 2 (SLVERR) or 3 (DECERR).
    import "DPI-C" function byte unsigned memory_response(input longint unsigned address, input int unsigned bytes);
    import "DPI-C" function longint unsigned memory_read(input longint unsigned address);
    // Nonzero where a strobed byte is outside the window that may be written.
    import "DPI-C" function byte unsigned memory_write(
        input longint unsigned address, input longint unsigned data, input byte unsigned strobe);

    localparam int BYTES = DATA_BITS / 8;
    localparam int WORD = DATA_BITS < 64 ? DATA_BITS : 64;  // bits of an access to the storage
    localparam int INDEX_BITS = $clog2(OUTSTANDING);

    typedef struct {
        logic                    id;
        logic [ADDRESS_BITS-1:0] address;
        logic [7:0]              last_beat;
        int unsigned             due;
    } burst_t;

    typedef struct {
        logic        id;
        logic [1:0]  response;
        int unsigned due;
    } response_t;

    int unsigned now;
    always_ff @(posedge clk) now <= rst ? 0 : now + 1;

    function automatic longint unsigned beat_address(input logic [ADDRESS_BITS-1:0] address, input logic [7:0] beat);
        return (64'(address) / BYTES + 64'(beat)) * BYTES;
    endfunction

    // Reads: addresses wait until they are due, then fill the data register whenever it is free.

    burst_t              reads     [OUTSTANDING];
    logic [INDEX_BITS:0] read_tail;
    logic [INDEX_BITS:0] read_head;
    logic [         7:0] read_beat;
    burst_t              read;

    assign arready = read_tail - read_head != (INDEX_BITS + 1)'(OUTSTANDING);
    assign read    = reads[read_head[INDEX_BITS-1:0]];

    always_ff @(posedge clk) begin
        if (rst) begin
            read_tail <= 0;
            read_head <= 0;
            read_beat <= 0;
            rvalid    <= 0;
        end else begin
            if (arvalid && arready) begin
                reads[read_tail[INDEX_BITS-1:0]] <= '{arid, araddr, arlen, now + READ_LATENCY - 1};
                read_tail                        <= read_tail + 1;
            end
            if (!rvalid || rready) begin
                rvalid <= 0;
                if (read_head != read_tail && now >= read.due) begin
                    longint unsigned address;
                    logic [1:0]      response;
                    address  = beat_address(read.address, read_beat);
                    response = 2'(memory_response(address, BYTES));
                    for (int i = 0; i < DATA_BITS / WORD; i++)
                        rdata[WORD*i+:WORD] <= response == 0 ? WORD'(memory_read(address + 64'(WORD / 8 * i))) : 0;
                    rid    <= read.id;
                    rresp  <= response;
                    rlast  <= read_beat == read.last_beat;
                    rvalid <= 1;
                    if (read_beat == read.last_beat) begin
                        read_beat <= 0;
                        read_head <= read_head + 1;
                    end else begin
                        read_beat <= read_beat + 1;
                    end
                end
            end
        end
    end

    // Writes: beats go to the oldest address; a finished burst's response waits until it is due.

    burst_t              writes         [OUTSTANDING];
    logic [INDEX_BITS:0] write_tail;
    logic [INDEX_BITS:0] write_head;
    logic [         7:0] write_beat;
    logic [         1:0] write_response;
    burst_t              write;

    response_t           responses      [OUTSTANDING];
    logic [INDEX_BITS:0] response_tail;
    logic [INDEX_BITS:0] response_head;
    response_t           response;

    assign awready  = write_tail - write_head != (INDEX_BITS + 1)'(OUTSTANDING);
    assign wready   = write_tail != write_head && response_tail - response_head != (INDEX_BITS + 1)'(OUTSTANDING);
    assign write    = writes[write_head[INDEX_BITS-1:0]];
    assign response = responses[response_head[INDEX_BITS-1:0]];

    always_ff @(posedge clk) begin
        if (rst) begin
            write_tail     <= 0;
            write_head     <= 0;
            write_beat     <= 0;
            write_response <= 0;
            response_tail  <= 0;
            response_head  <= 0;
            bvalid         <= 0;
        end else begin
            if (awvalid && awready) begin
                writes[write_tail[INDEX_BITS-1:0]] <= '{awid, awaddr, awlen, 0};
                write_tail                         <= write_tail + 1;
            end
            if (wvalid && wready) begin
                longint unsigned address;
                logic [1:0]      worst;
                address = beat_address(write.address, write_beat);
                worst   = 2'(memory_response(address, BYTES));
                if (worst == 0) begin
                    for (int i = 0; i < DATA_BITS / WORD; i++)
                        if (memory_write(address + 64'(WORD / 8 * i), 64'(wdata[WORD*i+:WORD]),
                                         8'(wstrb[WORD/8*i+:WORD/8])) != 0)
                            $fatal(1, "write at 0x%0h is outside the window", address + 64'(WORD / 8 * i));
                end
                if (write_response > worst) worst = write_response;
                if (wlast != (write_beat == write.last_beat))
                    $fatal(1, "wlast is %0d at beat %0d of %0d", wlast, write_beat, write.last_beat + 1);
                if (write_beat == write.last_beat) begin
                    responses[response_tail[INDEX_BITS-1:0]] <= '{write.id, worst, now + WRITE_LATENCY - 1};
                    response_tail                            <= response_tail + 1;
                    write_head                               <= write_head + 1;
                    write_beat                               <= 0;
                    write_response                           <= 0;
                end else begin
                    write_beat     <= write_beat + 1;
                    write_response <= worst;
                end
            end
            if (!bvalid || bready) begin
                bvalid <= 0;
                if (response_head != response_tail && now >= response.due) begin
                    bid           <= response.id;
                    bresp         <= response.response;
                    bvalid        <= 1;
                    response_head <= response_head + 1;
                end
            end
        end
    end
endmodule
