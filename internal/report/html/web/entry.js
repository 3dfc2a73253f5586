// What the pages use of Observable Plot, and nothing else of it.
export {plot, barX, cell, text, line, ruleX, ruleY, dot, tip, pointerX, axisX, axisY, gridX, gridY, areaY} from "@observablehq/plot";
