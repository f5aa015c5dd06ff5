// Behaviour of the ECP5's multiplier and block RAM, which Yosys ships without: its cells_sim.v has them as black boxes.
//
// Written from Lattice's FPGA-TN-02205 (sysDSP Usage Guide) and FPGA-TN-02204 (sysMEM Usage Guide), in the modes that
// this project's netlists use; any other ends the simulation.

// 18 x 18 bits, each operand signed or unsigned; a register on each operand (with its sign) and on the product.
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTB_CLK = "NONE", parameter REG_INPUTC_CLK = "NONE",
    parameter REG_PIPELINE_CLK = "NONE", parameter REG_OUTPUT_CLK = "NONE",
    parameter CLK0_DIV = "ENABLED", parameter CLK1_DIV = "ENABLED", parameter CLK2_DIV = "ENABLED",
    parameter CLK3_DIV = "ENABLED", parameter HIGHSPEED_CLK = "NONE", parameter SOURCEB_MODE = "B_SHIFT",
    parameter MULT_BYPASS = "DISABLED", parameter CAS_MATCH_REG = "FALSE", parameter RESETMODE = "SYNC",
    parameter GSR = "ENABLED"
) (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0, B17, B16, B15, B14,
        B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16,
        P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    initial
        if ((REG_INPUTA_CLK != "NONE" && REG_INPUTA_CLK != "CLK0") || REG_PIPELINE_CLK != "NONE"
            || (REG_INPUTB_CLK != "NONE" && REG_INPUTB_CLK != "CLK0") || HIGHSPEED_CLK != "NONE"
            || (REG_OUTPUT_CLK != "NONE" && REG_OUTPUT_CLK != "CLK0") || SOURCEB_MODE != "B_SHIFT"
            || MULT_BYPASS != "DISABLED" || RESETMODE != "SYNC")
            $fatal(1, "MULT18X18D: a mode without a model");

    wire [18:0] a = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire [18:0] b = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    reg [18:0] a_register = 0, b_register = 0;
    reg [35:0] product_register = 0;
    wire signed [18:0] a_used = REG_INPUTA_CLK == "NONE" ? a : a_register;
    wire signed [18:0] b_used = REG_INPUTB_CLK == "NONE" ? b : b_register;
    wire [35:0] product = a_used * b_used;
    always @(posedge CLK0)
        if (RST0) begin
            a_register <= 0;
            b_register <= 0;
            product_register <= 0;
        end else if (CE0) begin
            a_register <= a;
            b_register <= b;
            product_register <= product;
        end
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
        P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} =
        REG_OUTPUT_CLK == "NONE" ? product : product_register;
endmodule

// 2048 bytes of 9 bits, two ports of 1, 2, 4, 9 or 18 bits on one clock each, or a write port A and a read port B of
// 36 bits. Words of 1, 2 and 4 bits lie in the lower 8 bits of a byte. There are no output registers. What a port
// reads where the other writes in the same cycle is not defined: here, the complement of what was there.
module DP16KD #(
    parameter DATA_WIDTH_A = 18, parameter DATA_WIDTH_B = 18, parameter REGMODE_A = "NOREG",
    parameter REGMODE_B = "NOREG", parameter RESETMODE = "SYNC", parameter ASYNC_RESET_RELEASE = "SYNC",
    parameter CSDECODE_A = "0b000", parameter CSDECODE_B = "0b000", parameter WRITEMODE_A = "NORMAL",
    parameter WRITEMODE_B = "NORMAL", parameter CLKAMUX = "CLKA", parameter CLKBMUX = "CLKB", parameter GSR = "ENABLED",
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0,
    parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0,
    parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0,
    parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0,
    parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
    parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0,
    parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0,
    parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0,
    parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0,
    parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
    parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0,
    parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
    parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0,
    parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0,
    parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
    parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0
) (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3,
        DIA2, DIA1, DIA0, ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1,
        ADA0, CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3,
        DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3,
        DIB2, DIB1, DIB0, ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1,
        ADB0, CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3,
        DOB2, DOB1, DOB0
);
    initial
        if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000"
            || CLKAMUX != "CLKA" || CLKBMUX != "CLKB" || WRITEMODE_A == "WRITETHROUGH"
            || WRITEMODE_B == "WRITETHROUGH")
            $fatal(1, "DP16KD: a mode without a model");
    reg [18431:0] memory;

    localparam [64 * 320 - 1:0] CONTENTS = {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
        INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31,
        INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F,
        INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D,
        INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
        INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
    initial  // sixteen words of 18 bits in each parameter, 20 bits apart
        for (int n = 0; n < 1024; n++) memory[18 * n +: 18] = CONTENTS[20 * n +: 18];

    wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1,
        ADA0};
    wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1,
        ADB0};
    wire [35:0] data_a = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
        DIB4, DIB3, DIB2, DIB1, DIB0, DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7,
        DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [35:0] data_b = {18'b0, DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6,
        DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};

    // A port's first bit, and the bits from there that it reaches; wide writes have byte enables in the address.
    function automatic int first(input int width, input [13:0] address);
        if (width == 36) first = 36 * int'(address[13:5]);
        else if (width == 18) first = 18 * int'(address[13:4]);
        else if (width == 9) first = 9 * int'(address[13:3]);
        else first = 9 * int'(address[13:3]) + int'(address[2:0]) / width * width;
    endfunction
    function automatic [35:0] mask(input int width, input [13:0] address, input write);
        if (width == 36) mask = write ? {{9{address[3]}}, {9{address[2]}}, {9{address[1]}}, {9{address[0]}}} : '1;
        else if (width == 18) mask = write ? {18'b0, {9{address[1]}}, {9{address[0]}}} : 36'h3FFFF;
        else mask = (36'b1 << width) - 1;
    endfunction
    // The bits that the other port writes, as seen from a port's first.
    function automatic [35:0] written(input int here, input int other, input [35:0] bits);
        if (here - other >= 36 || other - here >= 36) written = 0;
        else written = here < other ? bits << (other - here) : bits >> (here - other);
    endfunction

    wire select_a = CEA & {CSA2, CSA1, CSA0} == 0, select_b = CEB & {CSB2, CSB1, CSB0} == 0;
    wire [31:0] first_a = first(DATA_WIDTH_A, address_a), first_b = first(DATA_WIDTH_B, address_b);
    wire [35:0] bits_a = select_a & WEA ? mask(DATA_WIDTH_A, address_a, 1) : 0;
    wire [35:0] bits_b = select_b & WEB ? mask(DATA_WIDTH_B, address_b, 1) : 0;
    reg [35:0] output_a = 0, output_b = 0;
    always @(posedge CLKA) begin
        for (int n = 0; n < 36; n++) if (bits_a[n]) memory[first_a + n] <= data_a[n];
        if (RSTA & RESETMODE != "SYNC" | RSTB & RESETMODE != "SYNC") $fatal(1, "DP16KD: a reset without a model");
        if (RSTA) output_a <= 0;
        else if (select_a & (~WEA | WRITEMODE_A == "READBEFOREWRITE"))
            output_a <= (memory[first_a +: 36] ^ written(first_a, first_b, bits_b)) & mask(DATA_WIDTH_A, address_a, 0);
    end
    always @(posedge CLKB) begin
        for (int n = 0; n < 36; n++) if (bits_b[n]) memory[first_b + n] <= data_b[n];
        if (RSTB) output_b <= 0;
        else if (select_b & (~WEB | WRITEMODE_B == "READBEFOREWRITE"))
            output_b <= (memory[first_b +: 36] ^ written(first_b, first_a, bits_a)) & mask(DATA_WIDTH_B, address_b, 0);
    end
    // A word of 36 bits comes out at both ports' pins.
    wire [35:0] pins = DATA_WIDTH_B == 36 ? output_b : {output_b[17:0], output_a[17:0]};
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
        DOB1, DOB0, DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4,
        DOA3, DOA2, DOA1, DOA0} = pins;
endmodule
