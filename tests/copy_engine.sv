// A stand-in for the engine in tests of the harness: the same ports and registers, but it copies a block of memory.
//
// Started, it reads PROGRAM_LENGTH bursts of 16 beats from WINDOW_BASE on and writes them at PROGRAM_ADDRESS, then
// raises the interrupt; counter 0 counts the busy cycles, counter 1 the beats read. The high bit of PROGRAM_ADDRESS
// makes it wait forever, the next one makes it drop a valid awvalid.

module winnow #(
    parameter int DATA_BITS = 128
) (
    input logic clk,
    input logic rst,

    output logic                   m_axi_awid,
    output logic [           31:0] m_axi_awaddr,
    output logic [            7:0] m_axi_awlen,
    output logic [            2:0] m_axi_awsize,
    output logic [            1:0] m_axi_awburst,
    output logic                   m_axi_awvalid,
    input  logic                   m_axi_awready,
    output logic [  DATA_BITS-1:0] m_axi_wdata,
    output logic [DATA_BITS/8-1:0] m_axi_wstrb,
    output logic                   m_axi_wlast,
    output logic                   m_axi_wvalid,
    input  logic                   m_axi_wready,
    input  logic                   m_axi_bid,
    input  logic [            1:0] m_axi_bresp,
    input  logic                   m_axi_bvalid,
    output logic                   m_axi_bready,
    output logic                   m_axi_arid,
    output logic [           31:0] m_axi_araddr,
    output logic [            7:0] m_axi_arlen,
    output logic [            2:0] m_axi_arsize,
    output logic [            1:0] m_axi_arburst,
    output logic                   m_axi_arvalid,
    input  logic                   m_axi_arready,
    input  logic                   m_axi_rid,
    input  logic [  DATA_BITS-1:0] m_axi_rdata,
    input  logic [            1:0] m_axi_rresp,
    input  logic                   m_axi_rlast,
    input  logic                   m_axi_rvalid,
    output logic                   m_axi_rready,

    input  logic [15:0] s_axil_awaddr,
    input  logic [ 2:0] s_axil_awprot,
    input  logic        s_axil_awvalid,
    output logic        s_axil_awready,
    input  logic [31:0] s_axil_wdata,
    input  logic [ 3:0] s_axil_wstrb,
    input  logic        s_axil_wvalid,
    output logic        s_axil_wready,
    output logic [ 1:0] s_axil_bresp,
    output logic        s_axil_bvalid,
    input  logic        s_axil_bready,
    input  logic [15:0] s_axil_araddr,
    input  logic [ 2:0] s_axil_arprot,
    input  logic        s_axil_arvalid,
    output logic        s_axil_arready,
    output logic [31:0] s_axil_rdata,
    output logic [ 1:0] s_axil_rresp,
    output logic        s_axil_rvalid,
    input  logic        s_axil_rready,

    output logic irq
);
    localparam int BYTES = DATA_BITS / 8;

    assign m_axi_awid    = 0;
    assign m_axi_awlen   = 15;
    assign m_axi_awsize  = 3'($clog2(BYTES));
    assign m_axi_awburst = 1;
    assign m_axi_wstrb   = '1;
    assign m_axi_bready  = 1;
    assign m_axi_arid    = 0;
    assign m_axi_arlen   = 15;
    assign m_axi_arsize  = m_axi_awsize;
    assign m_axi_arburst = 1;

    // Registers: a write takes address and data together, a read answers in the next cycle.

    logic [31:0] program_address, program_length, window_base, busy_cycles, beats;
    logic busy, done, error, start, clear, accept_write;
    assign accept_write   = s_axil_awvalid && s_axil_wvalid && !s_axil_bvalid;
    assign s_axil_awready = accept_write;
    assign s_axil_wready  = accept_write;
    assign s_axil_arready = !s_axil_rvalid;
    assign s_axil_bresp   = 0;
    assign s_axil_rresp   = 0;
    assign start          = accept_write && s_axil_awaddr == 'h04 && s_axil_wdata[0];
    assign clear          = accept_write && s_axil_awaddr == 'h04 && s_axil_wdata[1];

    always_ff @(posedge clk) begin
        if (s_axil_bready) s_axil_bvalid <= 0;
        if (s_axil_rready) s_axil_rvalid <= 0;
        if (accept_write) begin
            s_axil_bvalid <= 1;
            case (s_axil_awaddr)
                'h0c: program_address <= s_axil_wdata;
                'h10: program_length <= s_axil_wdata;
                'h14: window_base <= s_axil_wdata;
                default: ;
            endcase
        end
        if (s_axil_arvalid && s_axil_arready) begin
            s_axil_rvalid <= 1;
            case (s_axil_araddr)
                'h08: s_axil_rdata <= {16'h0, 7'h0, error, 5'h0, error, done, busy};
                'h40, 'h1000: s_axil_rdata <= busy_cycles;
                'h44, 'h1004: s_axil_rdata <= beats;
                default: s_axil_rdata <= 0;
            endcase
        end
        if (rst) begin
            s_axil_bvalid <= 0;
            s_axil_rvalid <= 0;
        end
    end

    // Reads go straight to the write channel through one register.

    logic [31:0] read_bursts, write_bursts, finished_bursts;
    logic [ 3:0] write_beat;
    logic        wait_forever, break_rule;
    assign wait_forever  = program_address[31];
    assign break_rule    = program_address[30];
    assign m_axi_arvalid = busy && read_bursts != program_length;
    assign m_axi_araddr  = window_base + read_bursts * 16 * BYTES;
    assign m_axi_awvalid = busy && write_bursts != program_length && !(break_rule && busy_cycles[0]);
    assign m_axi_awaddr  = 32'(program_address[29:0]) + write_bursts * 16 * BYTES;
    assign m_axi_rready  = !m_axi_wvalid || m_axi_wready;
    assign m_axi_wlast   = write_beat == 15;

    always_ff @(posedge clk) begin
        if (busy) busy_cycles <= busy_cycles + 1;
        if (m_axi_arvalid && m_axi_arready) read_bursts <= read_bursts + 1;
        if (m_axi_awvalid && m_axi_awready) write_bursts <= write_bursts + 1;
        if (m_axi_wvalid && m_axi_wready) begin
            m_axi_wvalid <= 0;
            write_beat   <= write_beat + 1;
        end
        if (m_axi_rvalid && m_axi_rready) begin
            m_axi_wdata  <= m_axi_rdata;
            m_axi_wvalid <= 1;
            beats        <= beats + 1;
            if (m_axi_rresp != 0) error <= 1;
        end
        if (m_axi_bvalid) begin
            finished_bursts <= finished_bursts + 1;
            if (m_axi_bresp != 0) error <= 1;
        end
        if (busy && finished_bursts == program_length && !wait_forever) begin
            busy <= 0;
            done <= 1;
            irq  <= 1;
        end
        if (clear) irq <= 0;
        if (start) begin
            busy            <= 1;
            done            <= 0;
            error           <= 0;
            busy_cycles     <= 0;
            beats           <= 0;
            read_bursts     <= 0;
            write_bursts    <= 0;
            finished_bursts <= 0;
            write_beat      <= 0;
        end
        if (rst) begin
            busy         <= 0;
            irq          <= 0;
            m_axi_wvalid <= 0;
        end
    end
endmodule
