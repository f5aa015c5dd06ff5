// A 32 MB SDR SDRAM (4 banks of 8192 rows of 512 words of 16 bits), cycle by cycle, that checks what it is told.
//
// A violation ends the simulation with the name of the parameter or rule that was broken. Inputs count at the rising
// edge of `clk`; a word read is on `dq_o` at the edge CAS latency after READ's, and noise at all others. Bursts of 2
// or 4 words in sequence only; no auto precharge, no power-down. `cke` low: as before power-up, with the contents kept.
//
// Storage: the host buffer of fast_memory.cpp, at byte address {row, bank, column, 0}. The buffer may be shorter than
// 32 MB; an access beyond it is a violation.
//
// Times are in ps. Defaults: the slowest of IS42S16160G-7, AS4C16M16SA-7 and W9825G6KH-6 (hw/boards/sdram_timing.py has
// the datasheets). An argument of the simulator, such as +T_RCD=30000, goes before the parameter of that name.

module sdram_model #(
    parameter int CLOCK_PS = 10_000,
    parameter int T_RCD = 21_000,
    parameter int T_RP = 21_000,
    parameter int T_RAS = 42_000,
    parameter int T_RAS_MAX = 100_000_000,
    parameter int T_RC = 63_000,
    parameter int T_RRD = 14_000,
    parameter int T_WR = 14_000,
    parameter int T_RFC = 63_000,
    parameter int T_MRD = 14_000,
    parameter int LEAST_CYCLES = 2,  // of tRRD, tWR and tMRD
    parameter int T_REFI = 7_800_000,  // 64 ms / 8192 rows, rounded down
    parameter int POSTPONED = 8,  // refreshes that may be due at a time, beside the next one
    parameter int T_STARTUP = 200_000_000,
    parameter int INITIAL_REFRESHES = 8,
    parameter int T_CK2 = 10_000,  // shortest clock period with CAS latency 2
    parameter int T_CK3 = 7_000
) (
    input logic clk,

    input logic        cke,
    input logic        cs_n,
    input logic        ras_n,
    input logic        cas_n,
    input logic        we_n,
    input logic [ 1:0] ba,
    input logic [12:0] a,
    input logic [ 1:0] dqm,

    input  logic [15:0] dq_i,
    input  logic        dq_oe,   // the other side drives dq_i
    output logic [15:0] dq_o
);
    import "DPI-C" function byte unsigned memory_response(input longint unsigned address, input int unsigned bytes);
    import "DPI-C" function longint unsigned memory_read(input longint unsigned address);
    import "DPI-C" function byte unsigned memory_write(
        input longint unsigned address, input longint unsigned data, input byte unsigned strobe);

    localparam int BANKS = 4;
    localparam longint NEVER = -1_000_000_000;

    typedef enum logic [2:0] {  // {ras_n, cas_n, we_n}
        LOAD_MODE,
        AUTO_REFRESH,
        PRECHARGE,
        ACTIVE,
        WRITE,
        READ,
        TERMINATE,
        NOP
    } command_t;

    // Parameters, replaced by those of the command line; times in cycles.

    int clock, least_cycles, postponed, t_ck2, t_ck3, t_refi;
    int t_rcd, t_rp, t_ras, t_ras_max, t_rc, t_rrd, t_wr, t_rfc, t_mrd, t_startup;

    function automatic int given(input string name, input int value);
        void'($value$plusargs({name, "=%d"}, value));
        return value;
    endfunction

    function automatic int cycles(input string name, input int ps, input int least);
        int needed = (given(name, ps) + clock - 1) / clock;
        return needed > least ? needed : least;
    endfunction

    initial begin
        clock        = given("CLOCK_PS", CLOCK_PS);
        least_cycles = given("LEAST_CYCLES", LEAST_CYCLES);
        postponed    = given("POSTPONED", POSTPONED);
        t_ck2        = given("T_CK2", T_CK2);
        t_ck3        = given("T_CK3", T_CK3);
        t_refi       = given("T_REFI", T_REFI);
        t_rcd        = cycles("T_RCD", T_RCD, 1);
        t_rp         = cycles("T_RP", T_RP, 1);
        t_ras        = cycles("T_RAS", T_RAS, 1);
        t_ras_max    = cycles("T_RAS_MAX", T_RAS_MAX, 1);
        t_rc         = cycles("T_RC", T_RC, 1);
        t_rrd        = cycles("T_RRD", T_RRD, least_cycles);
        t_wr         = cycles("T_WR", T_WR, least_cycles);
        t_rfc        = cycles("T_RFC", T_RFC, 1);
        t_mrd        = cycles("T_MRD", T_MRD, least_cycles);
        t_startup    = cycles("T_STARTUP", T_STARTUP, 1);
    end

    // State.

    longint      now = 0;
    longint      powered = 0;  // cke went high
    bit          closed_once, mode_set;
    int          refreshes;
    int          cas_latency = 2;
    int          burst = 4;  // words of one
    int          owed;  // ps since the last refresh that was not late

    bit          is_open     [BANKS];
    logic [12:0] row         [BANKS];
    longint      activated   [BANKS];
    longint      precharged  [BANKS];
    longint      written     [BANKS];  // last data in
    longint      activated_any, refreshed, mode_loaded;

    int          burst_left = 0;  // words of the burst in work
    bit          burst_write;
    logic [ 1:0] burst_bank;
    logic [ 8:0] burst_column;

    logic [15:0] read_words  [2];  // words on their way to dq_o
    bit          read_valid  [2];
    bit          driving, drove;  // dq_o holds a word at this edge, held one at the edge before
    logic [ 1:0] dqm_before;

    function automatic void require(input string name, input longint since, input int least);
        if (now - since < longint'(least))
            $fatal(1, "%s: %0d cycles of %0d in cycle %0d", name, now - since, least, now);
    endfunction

    function automatic longint unsigned word_address();
        longint unsigned address = {39'b0, row[burst_bank], burst_bank, burst_column[8:2], 3'b0};
        if (memory_response(address, 8) != 0) $fatal(1, "storage: no memory at 0x%0h", address);
        return address;
    endfunction

    always @(posedge clk) begin
        command_t command;
        bit       word_valid;
        logic [15:0] word;

        command = cs_n ? NOP : command_t'({ras_n, cas_n, we_n});
        now++;
        if (!cke) begin
            powered     = now;
            closed_once = 0;
            mode_set    = 0;
            refreshes   = 0;
            owed        = 0;
            burst_left  = 0;
            activated_any = NEVER;
            refreshed     = NEVER;
            mode_loaded   = NEVER;
            for (int i = 0; i < BANKS; i++) begin
                is_open[i]    = 0;
                activated[i]  = NEVER;
                precharged[i] = NEVER;
                written[i]    = NEVER;
            end
            if (command != NOP) $fatal(1, "tSTARTUP: a command while CKE is low in cycle %0d", now);
        end

        // Power-up.
        if (command != NOP) begin
            require("tSTARTUP", powered, t_startup);
            require("tRFC", refreshed, t_rfc);
            require("tMRD", mode_loaded, t_mrd);
        end
        if (mode_set) begin
            owed += clock;
            if (owed > (postponed + 1) * t_refi)
                $fatal(1, "tREFI: %0d refreshes are due in cycle %0d", owed / t_refi, now);
        end

        case (command)
            LOAD_MODE: begin
                for (int i = 0; i < BANKS; i++) begin
                    if (is_open[i]) $fatal(1, "LOAD MODE: bank %0d is open in cycle %0d", i, now);
                    require("tRP", precharged[i], t_rp);
                end
                if (!closed_once || refreshes < INITIAL_REFRESHES)
                    $fatal(1, "initialization: LOAD MODE after %0d refreshes in cycle %0d", refreshes, now);
                cas_latency = int'(a[6:4]);
                burst       = 1 << a[2:0];
                if ({ba, a[12:7], a[3]} != 0 || burst < 2 || burst > 4 || cas_latency < 2 || cas_latency > 3)
                    $fatal(1, "LOAD MODE: mode 0x%0h in cycle %0d", a, now);
                if (clock < (cas_latency == 2 ? t_ck2 : t_ck3))
                    $fatal(1, "tCK: %0d ps with CAS latency %0d", clock, cas_latency);
                mode_set    = 1;
                mode_loaded = now;
            end
            AUTO_REFRESH: begin
                for (int i = 0; i < BANKS; i++) begin
                    if (is_open[i]) $fatal(1, "AUTO REFRESH: bank %0d is open in cycle %0d", i, now);
                    require("tRP", precharged[i], t_rp);
                end
                if (!closed_once) $fatal(1, "initialization: AUTO REFRESH before PRECHARGE ALL in cycle %0d", now);
                refreshed = now;
                refreshes++;
                owed = owed > t_refi ? owed - t_refi : 0;
            end
            PRECHARGE: begin
                for (int i = 0; i < BANKS; i++)
                    if (a[10] || ba == 2'(i)) begin
                        if (burst_left > 0 && burst_bank == 2'(i))
                            $fatal(1, "PRECHARGE: cuts the burst of bank %0d in cycle %0d", i, now);
                        if (is_open[i]) begin
                            require("tRAS", activated[i], t_ras);
                            require("tWR", written[i], t_wr);
                            if (now - activated[i] > longint'(t_ras_max))
                                $fatal(1, "tRAS maximum: bank %0d was open for %0d cycles", i, now - activated[i]);
                            precharged[i] = now;
                        end
                        is_open[i] = 0;
                    end
                if (a[10]) closed_once = 1;
            end
            ACTIVE: begin
                if (!mode_set) $fatal(1, "initialization: ACTIVE before LOAD MODE in cycle %0d", now);
                if (is_open[ba]) $fatal(1, "ACTIVE: bank %0d is open in cycle %0d", ba, now);
                require("tRP", precharged[ba], t_rp);
                require("tRC", activated[ba], t_rc);
                require("tRRD", activated_any, t_rrd);
                is_open[ba]   = 1;
                row[ba]       = a;
                activated[ba] = now;
                activated_any = now;
            end
            READ, WRITE: begin
                if (!is_open[ba]) $fatal(1, "%s: bank %0d is closed in cycle %0d", command.name(), ba, now);
                if (a[10]) $fatal(1, "%s: auto precharge in cycle %0d", command.name(), now);
                if (burst_left > 0) $fatal(1, "%s: cuts a burst in cycle %0d", command.name(), now);
                if (a[12:9] != 0 || (int'(a) & (burst - 1)) != 0)
                    $fatal(1, "%s: column 0x%0h in cycle %0d", command.name(), a, now);
                require("tRCD", activated[ba], t_rcd);
                burst_left   = burst;
                burst_write  = command == WRITE;
                burst_bank   = ba;
                burst_column = a[8:0];
            end
            TERMINATE: $fatal(1, "BURST TERMINATE: in cycle %0d", now);
            default: ;
        endcase

        if (cke && !mode_set && dqm != 3) $fatal(1, "initialization: DQM is low before LOAD MODE in cycle %0d", now);

        // Data: a word of the burst in work. Who drives the pins lets go of them for a cycle before the other does.
        if (dq_oe != (burst_left > 0 && burst_write))
            $fatal(1, "DQ: %s in cycle %0d", dq_oe ? "driven, but no word is to be written" : "no word to write", now);
        if (dq_oe && (driving || drove)) $fatal(1, "DQ: driven from both sides in cycle %0d", now);
        word_valid = 0;
        word = 0;
        if (burst_left > 0) begin
            longint unsigned address;
            address = word_address();
            if (burst_write) begin
                if (memory_write(address, 64'(dq_i) << {burst_column[1:0], 4'b0},
                                 8'(~dqm) << {burst_column[1:0], 1'b0} & 8'(3 << {burst_column[1:0], 1'b0})) != 0)
                    $fatal(1, "storage: write at 0x%0h is outside the window", address);
                written[burst_bank] = now;
            end else begin
                word_valid = 1;
                word       = 16'(memory_read(address) >> {burst_column[1:0], 4'b0});
            end
            burst_column++;
            burst_left--;
        end
        drove   = driving;
        driving = read_valid[cas_latency-2];
        dq_o <= 16'(now * 40_503);
        for (int i = 0; i < 2; i++)
            if (driving && !dqm_before[i]) dq_o[8*i+:8] <= read_words[cas_latency-2][8*i+:8];
        read_valid[1] = read_valid[0];
        read_words[1] = read_words[0];
        read_valid[0] = word_valid;
        read_words[0] = word;
        dqm_before    = dqm;
    end
endmodule
