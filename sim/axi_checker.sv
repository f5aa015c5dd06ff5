// Checks what an AXI4 master drives and stops the simulation with one line at the first violation.
//
// Once valid is high, it and its payload stay until ready; bursts are INCR, of full width, at most 16 beats, aligned to
// a beat, within a 4 KB page, with id 0.

module axi_checker #(
    parameter int ADDRESS_BITS = 32,
    parameter int DATA_BITS = 128
) (
    input logic clk,
    input logic rst,

    input logic                    awid,
    input logic [ADDRESS_BITS-1:0] awaddr,
    input logic [             7:0] awlen,
    input logic [             2:0] awsize,
    input logic [             1:0] awburst,
    input logic                    awvalid,
    input logic                    awready,
    input logic [   DATA_BITS-1:0] wdata,
    input logic [ DATA_BITS/8-1:0] wstrb,
    input logic                    wlast,
    input logic                    wvalid,
    input logic                    wready,

    input logic                    arid,
    input logic [ADDRESS_BITS-1:0] araddr,
    input logic [             7:0] arlen,
    input logic [             2:0] arsize,
    input logic [             1:0] arburst,
    input logic                    arvalid,
    input logic                    arready
);
    localparam int BYTES = DATA_BITS / 8;

    function automatic void check_burst(input logic id, input logic [ADDRESS_BITS-1:0] address, input logic [7:0] length,
                                        input logic [2:0] size, input logic [1:0] burst);
        if (id != 0 || size != 3'($clog2(BYTES)) || burst != 1 || length > 15 || address % BYTES != 0
            || 32'(address[11:0]) + (32'(length) + 1) * BYTES > 4096)
            $fatal(1, "AXI burst: id %0d, address 0x%0h, length %0d, size %0d, burst %0d", id, address, length, size, burst);
    endfunction

    logic                                 aw_stalled, w_stalled, ar_stalled;
    logic [           ADDRESS_BITS+8-1:0] aw_before, ar_before;
    logic [DATA_BITS+DATA_BITS/8+1-1:0] w_before;

    always_ff @(posedge clk) begin
        aw_stalled <= !rst && awvalid && !awready;
        w_stalled  <= !rst && wvalid && !wready;
        ar_stalled <= !rst && arvalid && !arready;
        aw_before  <= {awaddr, awlen};
        w_before   <= {wdata, wstrb, wlast};
        ar_before  <= {araddr, arlen};
        if (!rst) begin
            if (aw_stalled && (!awvalid || aw_before != {awaddr, awlen})) $fatal(1, "AXI AW changed before it was taken");
            if (w_stalled && (!wvalid || w_before != {wdata, wstrb, wlast})) $fatal(1, "AXI W changed before it was taken");
            if (ar_stalled && (!arvalid || ar_before != {araddr, arlen})) $fatal(1, "AXI AR changed before it was taken");
            if (awvalid) check_burst(awid, awaddr, awlen, awsize, awburst);
            if (arvalid) check_burst(arid, araddr, arlen, arsize, arburst);
        end
    end
endmodule
